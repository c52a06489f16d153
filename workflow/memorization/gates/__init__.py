"""The statistical tests of claims (brief §6), by kind of experiment. `claims.TESTS` lists them."""
