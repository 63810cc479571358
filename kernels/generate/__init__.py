"""From an analysed system and a schedule to the source of one module, for the CPU or for CUDA."""
