"""Who may ask for what, and who may approve it: Cedar decides "may", our annotations say what it obliges to.

`cedar` is the port's implementation; `slices` makes the questions and the entities they rest on, `loading` reads and
checks policy files, `obligations` owns the annotations, `explain` says what would be allowed instead, and `replay`
answers recorded questions again. Nothing outside of `engine` and `loading` knows cedarpy.
"""
