//! Scopes: a part of a unit of work that may fail alone. A scope is a savepoint for the statements; the events that were raised
//! inside it are dropped with it.

use super::{Error, UnitOfWork};

/// A scope that was begun. Hand it to [`keep`](UnitOfWork::keep) or [`undo`](UnitOfWork::undo); one that is dropped is kept.
#[derive(Debug)]
#[must_use = "a scope is kept or undone"]
pub struct Scope {
    depth: usize,
    /// Number of the first event that belongs to it.
    pub(super) first: usize,
}

impl UnitOfWork {
    /// Begins a scope. After an error Postgres takes no further statement in a transaction, except in one that goes back to a savepoint:
    /// a handler that may fail without taking everything with it does its work in a scope.
    ///
    /// ```
    /// # use outboxd::uow::*;
    /// # struct OrderPlaced { customer: String }
    /// # impl DomainEvent for OrderPlaced { fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) } }
    /// struct Recommend;
    /// impl Handle<OrderPlaced> for Recommend {
    ///     async fn handle(&self, event: &OrderPlaced, work: &mut UnitOfWork) -> Result<(), Failure> {
    ///         let scope = work.begin_scope().await?;
    ///         match recommend(&event.customer, work).await {
    ///             Ok(()) => work.keep(scope).await?,
    ///             Err(_) => work.undo(scope).await?, // the order is placed all the same
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// async fn recommend(customer: &str, work: &mut UnitOfWork) -> Result<(), Failure> {
    ///     sqlx::query("insert into recommendations (customer) values ($1)").bind(customer).execute(work.connection()).await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn begin_scope(&mut self) -> Result<Scope, Error> {
        let scope = Scope { depth: self.depth + 1, first: self.raised() };
        self.run(&scope, "savepoint").await?;
        self.depth = scope.depth;
        Ok(scope)
    }

    /// Ends a scope and keeps what was done and raised in it.
    pub async fn keep(&mut self, scope: Scope) -> Result<(), Error> {
        self.end(&scope)?;
        self.run(&scope, "release savepoint").await
    }

    /// Ends a scope as if it had never been begun: its statements are undone, its events were never raised.
    pub async fn undo(&mut self, scope: Scope) -> Result<(), Error> {
        self.end(&scope)?;
        self.run(&scope, "rollback to savepoint").await?;
        self.forget_from(&scope);
        self.run(&scope, "release savepoint").await
    }

    fn end(&mut self, scope: &Scope) -> Result<(), Error> {
        // One that was dropped inside goes with the one around it.
        if scope.depth > self.depth {
            return Err(Error::ScopeOrder);
        }
        self.depth = scope.depth - 1;
        Ok(())
    }

    async fn run(&mut self, scope: &Scope, verb: &str) -> Result<(), Error> {
        let statement = format!("{verb} outboxd_scope_{}", scope.depth);
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(self.connection()).await?;
        Ok(())
    }
}
