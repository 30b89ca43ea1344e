//! An engine written in Python: what the flow around the engine is told, is what a test says.

use pyo3::{exceptions::PyTypeError, prelude::*, types::PyDict};
use schematic_core::{
    decider::{Engine, EngineRequest, Judgement},
    engine::KeptReason,
    text::Text,
};

use crate::results::CheckFlagResult;

/// Asks a callable, which answers with a `CheckFlagResult`; one that raises is an engine that fails.
pub(crate) struct ScriptedEngine(Py<PyAny>);

impl ScriptedEngine {
    pub fn boxed(callable: Py<PyAny>) -> Box<dyn Engine> {
        Box::new(Self(callable))
    }

    fn ask(&self, py: Python<'_>, question: EngineRequest<'_>) -> PyResult<Judgement> {
        let credit_cost = PyDict::new(py);
        for (credit, cost) in question.credit_cost {
            credit_cost.set_item(credit, cost)?;
        }
        let asked = (
            question.flag_key,
            question.company_id,
            question.balance,
            credit_cost,
            question.event_usage,
        );
        let answer = self.0.call1(py, asked)?;
        let answer = answer
            .bind(py)
            .cast::<CheckFlagResult>()
            .map_err(|_| PyTypeError::new_err("engine must answer with a CheckFlagResult"))?;
        Ok(answer.get().judgement())
    }
}

impl Engine for ScriptedEngine {
    fn judge(&self, question: EngineRequest<'_>) -> Judgement {
        Python::attach(|py| {
            self.ask(py, question).unwrap_or_else(|fault| {
                fault.write_unraisable(py, Some(self.0.bind(py)));
                Judgement {
                    value: false,
                    failed: true,
                    reason: KeptReason::Text(Text::Static("engine_error")),
                    entitlement: None,
                }
            })
        })
    }
}
