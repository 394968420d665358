//go:build !go1.24

package main

// weakly has nothing to try: package weak is newer than this release.
func weakly() {}
