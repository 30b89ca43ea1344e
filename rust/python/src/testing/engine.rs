//! An engine written in Python, in place of the rules engine: a test scripts what the flow around the
//! engine is told. It must never let an exception of the script reach the flow.

use pyo3::{exceptions::PyTypeError, prelude::*, types::PyDict};
use schematic_core::{
    decider::{Engine, EngineRequest, Judgement},
    engine::KeptReason,
    text::Text,
};

use crate::{
    core::{Core, scripting::NEXT_ENGINE},
    results::CheckFlagResult,
};

/// Makes a core whose lease-backed checks a callable answers.
#[pyfunction]
#[pyo3(signature = (engine, **settings))]
pub(super) fn scripted_core<'py>(
    py: Python<'py>,
    engine: Py<PyAny>,
    settings: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    NEXT_ENGINE.set(Some(Box::new(ScriptedEngine(engine))));
    let core = py.get_type::<Core>().call((), settings);
    // Settings that are refused leave it there, for another core to find.
    NEXT_ENGINE.set(None);
    core
}

/// Asks a callable, which answers with a `CheckFlagResult`; one that raises is an engine that fails.
struct ScriptedEngine(Py<PyAny>);

impl ScriptedEngine {
    fn ask(&self, py: Python<'_>, question: EngineRequest<'_>) -> PyResult<Judgement> {
        let credit_cost = PyDict::new(py);
        for (credit, cost) in question.credit_cost {
            credit_cost.set_item(credit, cost)?;
        }
        let arguments = (
            question.flag_key,
            question.company_id,
            question.balance,
            credit_cost,
            question.event_usage,
        );
        let answer = self.0.call1(py, arguments)?;
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
