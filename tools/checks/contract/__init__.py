"""The contract that every provider keeps, checked against servers on this machine that speak each provider's wire format.

Adding a provider to the table is one small file in `tools/contract/providers`: what its service answers, right and wrong.
"""
