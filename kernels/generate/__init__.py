"""From an analysed system and a schedule to the source of a kernel, for the CPU or for CUDA."""
