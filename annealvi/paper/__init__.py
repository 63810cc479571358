"""The paper, rebuilt from the derivation and from results: equations, numbers, tables, figures and the article.

`exported_equations` makes labelled equations from the derivation, its limits and their checks. `article_results`
computes verification, probabilities, maps and fixed points anew; `stored_flows` reads the flows' stored results.
`fragments` and `article_figures` make numbers, tables and figures of both. `build` puts all into the prose of
paper/article.in.tex, and typesets it if latexmk is installed. `folder` replaces the files of the last run.
"""
