"""The contract that every provider keeps, checked against servers on this machine that speak each provider's wire format.

A new provider is one small file in `providers`: what its service answers, right and wrong.
"""
