//! The name of a slot.

/// A slot's name: the company and the credit type. At most one lease is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotKey<'a> {
    /// The company.
    pub company_id: &'a str,
    /// The credit type.
    pub credit_type_id: &'a str,
}
