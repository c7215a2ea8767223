"""The verbs of the command line, a module per topic. A verb reads its options, asks the packages, and tells the result.

Imports of packages stay inside the verbs, so that `segue --help` is there at once.
"""
