//! Ids and short texts that live inside what they name.

/// Bytes that a text may have and still fit beside the tag and the length.
const INLINE: usize = 22;

/// A text of the size of three words. A short one, as nearly every id is, lies inside: comparing it touches no
/// other memory than that of its entry, and two short ones are compared without a loop.
#[derive(Debug, Clone)]
pub(crate) struct Name(Form);

#[derive(Debug, Clone)]
enum Form {
    /// What lies beyond the length is zero.
    Short {
        length: u8,
        bytes: [u8; INLINE],
    },
    Long(Box<str>),
}

impl Name {
    /// No text.
    pub const EMPTY: Self = Self(Form::Short {
        length: 0,
        bytes: [0; INLINE],
    });

    pub fn new(text: &str) -> Self {
        let mut bytes = [0; INLINE];
        let length = u8::try_from(text.len()).ok();
        match (length, bytes.get_mut(..text.len())) {
            (Some(length), Some(start)) => {
                start.copy_from_slice(text.as_bytes());
                Self(Form::Short { length, bytes })
            }
            _ => Self(Form::Long(text.into())),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Form::Long(text) => text.as_bytes(),
        }
    }

    /// The text; a short one is checked to be text again, so comparisons look at the bytes.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Form::Short { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Form::Long(text) => text,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.0, Form::Short { length: 0, .. })
    }

    #[inline]
    pub fn is(&self, text: &str) -> bool {
        self.as_bytes() == text.as_bytes()
    }
}

impl PartialEq for Name {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let (
            Form::Short { length, bytes },
            Form::Short {
                length: other_length,
                bytes: other_bytes,
            },
        ) = (&self.0, &other.0)
        else {
            return same_long(&self.0, &other.0);
        };
        bytes == other_bytes && length == other_length
    }
}

/// Apart from the comparison of short texts, which is so common that what this needs must not burden it.
#[cold]
#[inline(never)]
fn same_long(form: &Form, other: &Form) -> bool {
    match (form, other) {
        (Form::Long(text), Form::Long(other)) => text == other,
        // A text that fits inside is never kept outside.
        _ => false,
    }
}

impl Eq for Name {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{INLINE, Name};

    #[test]
    fn a_name_is_three_words_long() {
        assert_eq!(size_of::<Name>(), 24);
        assert_eq!(size_of::<Option<Name>>(), 24);
    }

    #[test]
    fn a_text_is_kept_on_both_sides_of_what_fits_inside() {
        for length in [0, 1, INLINE - 1, INLINE, INLINE + 1, 255, 256, 300] {
            let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
            let name = Name::new(&text);
            assert_eq!(name.as_str(), text);
            assert_eq!(name.as_bytes(), text.as_bytes());
            assert_eq!(name.is_empty(), text.is_empty());
            assert!(name.is(&text));
        }
    }

    #[test]
    fn no_text_is_the_empty_name() {
        assert_eq!(Name::new(""), Name::EMPTY);
    }

    #[test]
    fn zeros_at_the_end_count() {
        assert_ne!(Name::new("a"), Name::new("a\0"));
        assert_ne!(Name::new(""), Name::new("\0"));
    }

    proptest! {
        #[test]
        fn names_are_the_same_where_their_texts_are(left in "[a\0]{20,24}", right in "[a\0]{20,24}") {
            let (name, other) = (Name::new(&left), Name::new(&right));
            prop_assert_eq!(name == other, left == right);
            prop_assert_eq!(name.is(&right), left == right);
            prop_assert!(name == Name::new(&left));
        }
    }
}
