"""The contract suite, tested by mutation: each row breaks one promise of the store, and the suite must find it."""
