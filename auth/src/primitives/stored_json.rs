//! JSON as PostgreSQL stores it. PostgreSQL accepts numbers that `serde_json` rejects (`1e400`), and one such row must not break the pages and
//! exports that read it.

use serde_json::Value;
use sqlx::{Decode, Postgres, Type, error::BoxDynError, postgres::PgValueRef};

/// Selected as `column::text as "column!: StoredJson"`. What can't be read stands as the text that it is.
#[derive(Debug)]
pub(crate) struct StoredJson(Value);

impl StoredJson {
    pub fn read(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
    }
}

impl From<StoredJson> for Value {
    fn from(stored: StoredJson) -> Self {
        stored.0
    }
}

impl Type<Postgres> for StoredJson {
    fn type_info() -> <Postgres as sqlx::Database>::TypeInfo {
        <str as Type<Postgres>>::type_info()
    }
}

impl Decode<'_, Postgres> for StoredJson {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        <&str as Decode<Postgres>>::decode(value).map(Self::read)
    }
}
