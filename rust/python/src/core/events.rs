//! The events of a client: how they are queued, and the batches in which they are taken to be sent. It
//! must never send one.

use pyo3::prelude::*;
use schematic_core::events::{IdempotencyKey, Identify, Track};

use super::Core;
use crate::{arguments, events::EventBatch, wake::uninterrupted};

#[pymethods]
impl Core {
    #[pyo3(signature = (
        event, company=None, user=None, traits=None, quantity=None, idempotency_key=None,
        sent_at=None, trusted_client_clock=None, backfill=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the fields of a track event")]
    fn track(
        &self,
        event: &Bound<'_, PyAny>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        traits: Option<&[u8]>,
        quantity: Option<i64>,
        idempotency_key: Option<&str>,
        sent_at: Option<&str>,
        trusted_client_clock: Option<bool>,
        backfill: Option<bool>,
    ) -> PyResult<()> {
        self.client.track(Track {
            event: arguments::text("event", event)?.into(),
            company: arguments::keys("company", company)?,
            user: arguments::keys("user", user)?,
            quantity,
            traits: arguments::json("traits", traits)?.map(Into::into),
            idempotency_key: IdempotencyKey::given(idempotency_key),
            sent_at: sent_at.map(Into::into),
            trusted_client_clock,
            backfill,
        });
        uninterrupted(())
    }

    #[pyo3(signature = (keys, company=None, name=None, traits=None, idempotency_key=None))]
    fn identify(
        &self,
        keys: &Bound<'_, PyAny>,
        company: Option<&[u8]>,
        name: Option<&Bound<'_, PyAny>>,
        traits: Option<&[u8]>,
        idempotency_key: Option<&str>,
    ) -> PyResult<()> {
        self.client.identify(Identify {
            keys: arguments::keys("keys", Some(keys))?.unwrap_or_default(),
            company: arguments::json("company", company)?.map(Into::into),
            name: arguments::optional_text("name", name)?.map(Into::into),
            traits: arguments::json("traits", traits)?.map(Into::into),
            idempotency_key: IdempotencyKey::given(idempotency_key),
        });
        uninterrupted(())
    }

    #[pyo3(signature = (*, full=false))]
    fn take_batch(&self, full: bool) -> Option<EventBatch> {
        let batch = if full {
            self.client.events().take_full_batch()
        } else {
            self.client.take_batch()
        };
        batch.map(EventBatch)
    }

    fn expect_batch(&self) -> bool {
        self.client.events().expect_batch()
    }
}
