//! What a statement that returns no rows comes to.

use sqlx::{PgExecutor, Postgres, postgres::PgArguments, query::Query};

pub(crate) trait Statement {
    /// Runs it, whatever it changes.
    async fn run(self, executor: impl PgExecutor<'_>) -> sqlx::Result<()>;

    /// Whether it changed anything: where one conditional statement decides, this is its answer.
    async fn changes(self, executor: impl PgExecutor<'_>) -> sqlx::Result<bool>;
}

impl Statement for Query<'_, Postgres, PgArguments> {
    async fn run(self, executor: impl PgExecutor<'_>) -> sqlx::Result<()> {
        self.execute(executor).await.map(drop)
    }

    async fn changes(self, executor: impl PgExecutor<'_>) -> sqlx::Result<bool> {
        Ok(self.execute(executor).await?.rows_affected() > 0)
    }
}
