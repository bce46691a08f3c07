"""What every layer shares: face regions, seeding, fingerprints and logging. Needs no torch."""
