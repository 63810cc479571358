"""Systems and schedules as the source of a module for the CPU or for CUDA."""
