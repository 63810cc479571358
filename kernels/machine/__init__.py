"""What the kernels run on: devices, threads, the cache of compiled code, elementary functions that vectorise."""
