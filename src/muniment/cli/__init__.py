"""The command line: words in, documents or tables out. No rules live here.

`app` is the program, `session` what every command has at hand; each other file holds one group of commands, or shows
one kind of thing.
"""
