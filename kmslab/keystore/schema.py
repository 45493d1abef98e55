"""The tables of a lab, the same in every database."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

SCHEMA_VERSION = 1

metadata = MetaData()

# Times are whole microseconds since 1970-01-01 UTC; a MAC goes over them as they stand here.
lab_table = Table(
    "lab",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("lab_id", String(36), nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("unsafe", Boolean, nullable=False),
    Column("root_id", String(32), nullable=False),
    Column("kdf", Text),
    Column("settings", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("keys_digest", LargeBinary(32), nullable=False),
    Column("credentials_digest", LargeBinary(32), nullable=False),
    Column("audit_seq", BigInteger, nullable=False),
    Column("audit_head", LargeBinary(32), nullable=False),
    Column("mac", LargeBinary(32), nullable=False),
)

keys_table = Table(
    "keys",
    metadata,
    Column("key_id", String(36), primary_key=True),
    Column("provider", String(16), nullable=False),
    Column("region", String(64), nullable=False),
    Column("spec", String(16), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("state", String(20), nullable=False),
    Column("alias", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deletion_at", BigInteger),
    Column("rotation_days", Integer),
    Column("next_rotation_at", BigInteger),
    Column("last_rotated_at", BigInteger),
    Column("rotated_on_demand_at", BigInteger),
    Column("material_expires_at", BigInteger),
    Column("material_check", LargeBinary(32)),
    Column("primary_version_id", String(36)),
    Column("generation", BigInteger, nullable=False),
    Column("mac", LargeBinary(32), nullable=False),
)

versions_table = Table(
    "versions",
    metadata,
    Column("key_id", String(36), primary_key=True),
    Column("version_id", String(36), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("sealed", LargeBinary),
    Column("public_key", LargeBinary),
    Column("encryptions", BigInteger, nullable=False),
)

credentials_table = Table(
    "credentials",
    metadata,
    Column("secret_id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("rights", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

audit_table = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("provider", String(16), nullable=False),
    Column("action", Text, nullable=False),
    Column("key_id", String(36)),
    Column("version_id", String(36)),
    Column("source_key_id", String(36)),
    Column("source_version_id", String(36)),
    Column("outcome", Text, nullable=False),
    Column("request_id", String(36)),
    Column("last_request_id", String(36)),
    Column("count", BigInteger, nullable=False),
    Column("mac", LargeBinary(32), nullable=False),
)
