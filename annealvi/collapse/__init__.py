"""The probability of mode collapse: by the separatrix formula, by ensembles of the ODE, and by particles; maps, and
schedules chosen by it.

initial_law, outcome                how runs begin, how they end coverage                            which problems the
formula covers, known before a derivation pair_flow → trapping                averages within proven bounds, and the
sets that the flow never leaves separatrix, growth → formula        shooting for the boundary between the outcomes, and
the law of the start integrated over it ensemble, by_particles → command    the other two routes, and all three side by
side family                              problems that differ in a few numbers, derived and compiled once phase,
recommend, holds, optimal, scaling   what is asked of a family: maps, cheapest and best schedules, how they scale
figures
"""
