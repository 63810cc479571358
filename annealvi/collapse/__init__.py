"""The probability of mode collapse: by the separatrix formula, by ensembles of the ODE, and by particles; maps, and schedules chosen by it.

initial_law, trapping, outcome      how runs begin, which sets they never leave, how they end
separatrix, growth → formula        shooting for the boundary between the outcomes, and the law of the start integrated over it
ensemble, by_particles → command    the other two routes, and all three side by side
family                              problems that differ in a few numbers, derived and compiled once
phase, recommend, holds, optimal, scaling   what is asked of a family: maps, cheapest and best schedules, how they scale
figures
"""
