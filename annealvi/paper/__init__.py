"""The paper, rebuilt from the derivation and from results: equations, numbers, tables, figures, and the article around
them.

derivation, limits and their checks → labelled equations (`equations`) → files and a bundle of macros verification,
probabilities, maps, fixed points (`results`, computed anew each time) and the flows' stored results → `figures`,
`tables` all of it → the prose of paper/article.in.tex, typeset by latexmk where it is installed (`build`), in place of
the last run (`folder`)
"""
