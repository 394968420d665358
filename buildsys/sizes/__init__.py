"""Where the bytes of an image go: to which region, section, package and symbol; rows that add up to the whole."""
