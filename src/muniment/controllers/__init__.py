"""Loops that make the world match the ledger.

Level-triggered: a controller asks what is due, does it, and asks again. Nothing is a timer or a job that could be
lost: a heap of due times wakes it at the right instant, and a sweep over the read model is the safety net.
"""
