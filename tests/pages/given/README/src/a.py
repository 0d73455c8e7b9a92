"""What a README reader compiles."""

A = 1
