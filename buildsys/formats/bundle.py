"""A zip file whose bytes depend on nothing but the names and contents of what is in it.

Times, owners and the order of folders are left out. Compressed by bzip2 (APPNOTE.TXT 4.4.5, method 12), of which there
is one implementation: that of deflate differs from one system's zlib to another's.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from io import BytesIO

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time a zip file can tell: APPNOTE.TXT 4.4.6
UNIX = 3  # APPNOTE.TXT 4.4.2: what the attributes mean
FILE = 0o100644  # st_mode
LEVEL = 9  # blocks of 900 kB


def bundle(contents: Mapping[str, bytes]) -> bytes:
    """A zip file of `contents`, by their names in it, in the order of these."""
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = UNIX, FILE << 16
            archive.writestr(entry, contents[name], zipfile.ZIP_BZIP2, LEVEL)
    return made.getvalue()
