"""Backends: one file per kind of device. A file defines `availability()` and
`open_device(index, **options)`; adding a file adds a device."""
