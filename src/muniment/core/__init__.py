"""What a ticket is and what may happen to it. Pure: the clock and every fact are arguments.

Read in this order: `identity`, `scope`, `terms`, `events`, `ticket`, `separation`, `lifecycle`, `closure`.
"""
