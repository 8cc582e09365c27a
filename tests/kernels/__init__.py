"""`make test-kernels`: kernels as distributions ship them, booted under qemu, and what a run promises tried there.

table.py says which kernels; archives.py gets them, image.py makes what they boot, guest.py boots one, and inside.py is
what runs there. Not part of `make test`: it downloads kernels and wants root.
"""
