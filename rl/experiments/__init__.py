"""The runs behind the results page, and its tables.

`plan.yaml` names the runs, `plan` reads it, `jobs` trains and evaluates what is missing, `seeds` averages an
experiment over its seeds, `page` writes the tables, and `command` is the command line.
"""
