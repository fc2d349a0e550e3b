"""Executing user files so that only what their models need must work.

``execute`` runs a file statement by statement and leaves out what fails; ``selection`` says which statements a file's
definitions need; ``finder`` does the same for every user file that is imported; ``placeholder`` and ``standin`` are
what takes the place of packages that are missing; ``folders`` knows where a file's repository keeps its modules.
"""
