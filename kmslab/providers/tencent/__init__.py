"""The Tencent Cloud KMS of a lab: its ciphertexts, rules, codes and wire."""
