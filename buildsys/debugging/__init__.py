"""Commands of ours inside gdb: goroutines, barriers, page tables.

These modules run in gdb's own Python, on a machine that is stopped or was kept, and take from the rest of
buildsys only what needs nothing but Python.
"""
