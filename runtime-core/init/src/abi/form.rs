//! Forms of an op: with owned strings while planning, with spans once the plan is flat;
//! and the words that its fields take.

use core::fmt::Debug;

use super::Slot;

/// Part of the plan's bytes. A text's span ends with a NUL byte that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Byte offset from the start of the plan.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

/// How an op holds what is longer than a word.
pub trait Form: Clone + Debug + PartialEq {
    /// A string.
    type Text: Clone + Debug + PartialEq;
    /// A list of 32-bit numbers.
    type List: Clone + Debug + PartialEq;
    /// A table of strings, as execve(2) takes it.
    type Strings: Clone + Debug + PartialEq;
}

/// The form of a flat plan: spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flat;

impl Form for Flat {
    type Text = Span;
    type List = Span;
    /// The length is the number of strings; a null follows the last.
    type Strings = Span;
}

/// Turns the long parts of an op from one form into another.
pub trait Convert<F: Form, G: Form> {
    /// Converts a string.
    fn text(&mut self, text: &F::Text) -> G::Text;
    /// Converts a list.
    fn list(&mut self, list: &F::List) -> G::List;
    /// Converts a table of strings.
    fn strings(&mut self, strings: &F::Strings) -> G::Strings;
}

/// A value that is stored in one word of a step.
pub trait Word: Copy {
    /// The word.
    fn to_word(self) -> u64;
    /// The value of a word.
    fn from_word(word: u64) -> Self;
}

impl Word for u64 {
    fn to_word(self) -> u64 {
        self
    }
    fn from_word(word: u64) -> Self {
        word
    }
}

impl Word for u32 {
    fn to_word(self) -> u64 {
        self as u64
    }
    fn from_word(word: u64) -> Self {
        word as u32
    }
}

impl Word for i32 {
    fn to_word(self) -> u64 {
        self as u32 as u64
    }
    fn from_word(word: u64) -> Self {
        word as i32
    }
}

impl Word for bool {
    fn to_word(self) -> u64 {
        self as u64
    }
    fn from_word(word: u64) -> Self {
        word != 0
    }
}

impl Word for Slot {
    fn to_word(self) -> u64 {
        self.0 as u64
    }
    fn from_word(word: u64) -> Self {
        Slot(word as u8)
    }
}

impl Word for Span {
    fn to_word(self) -> u64 {
        self.offset as u64 | (self.len as u64) << 32
    }
    fn from_word(word: u64) -> Self {
        Span {
            offset: word as u32,
            len: (word >> 32) as u32,
        }
    }
}

/// What an op's field holds in each form.
pub trait Held {
    /// The type in form `F`.
    type In<F: Form>: Clone + Debug + PartialEq;
    /// The same value in another form.
    fn convert<F: Form, G: Form>(
        value: &Self::In<F>,
        convert: &mut impl Convert<F, G>,
    ) -> Self::In<G>;
}

/// A field that is a string.
#[derive(Clone, Copy, Debug)]
pub struct Text;

/// A field that is a list of numbers.
#[derive(Clone, Copy, Debug)]
pub struct List;

impl Held for Text {
    type In<F: Form> = F::Text;
    fn convert<F: Form, G: Form>(value: &F::Text, convert: &mut impl Convert<F, G>) -> G::Text {
        convert.text(value)
    }
}

impl Held for List {
    type In<F: Form> = F::List;
    fn convert<F: Form, G: Form>(value: &F::List, convert: &mut impl Convert<F, G>) -> G::List {
        convert.list(value)
    }
}

/// A field that is a table of strings.
#[derive(Clone, Copy, Debug)]
pub struct Strings;

impl Held for Strings {
    type In<F: Form> = F::Strings;
    fn convert<F: Form, G: Form>(
        value: &F::Strings,
        convert: &mut impl Convert<F, G>,
    ) -> G::Strings {
        convert.strings(value)
    }
}

macro_rules! held_as_is {
    ($($type:ty)*) => { $(
        impl Held for $type {
            type In<F: Form> = $type;
            fn convert<F: Form, G: Form>(value: &$type, _: &mut impl Convert<F, G>) -> $type {
                *value
            }
        }
    )* };
}

pub(super) use held_as_is;
