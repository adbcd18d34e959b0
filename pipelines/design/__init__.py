"""Design loops: propose, evaluate, select, learn, record."""
