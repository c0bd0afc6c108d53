

FIXED = dict(anneal="constant", anneal_rate=0.0, anneal_min=0.1, anneal_every=1)   # a temperature that stays
