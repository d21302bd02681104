"""How many images a feature network sees at a time: fixed, since float32 features can depend on it."""

BATCH = 32
