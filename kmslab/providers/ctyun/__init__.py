"""The CTyun (天翼云) KMS of a lab: its ciphertexts, rules, codes and wire."""
