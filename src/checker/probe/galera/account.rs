//! The account that all probes log in to.

use std::cell::RefCell;
use std::rc::Rc;

use crate::checker::mysql::Login;
use crate::checker::option_file::OptionFile;
use crate::checker::probe::warn;

/// An option file that several probes use. The first of them that finds it changed reads it again for all.
#[derive(Clone)]
pub(in crate::checker::probe) struct Account(Rc<RefCell<OptionFile>>);

impl Account {
    pub(in crate::checker::probe) fn new(file: OptionFile) -> Account {
        Account(Rc::new(RefCell::new(file)))
    }

    /// How to log in at present.
    pub(super) fn login(&self) -> Login {
        let mut file = self.0.borrow_mut();
        if let Err(error) = file.refresh() {
            warn(&error);
        }
        file.login().clone()
    }
}
