//! Catches a panic that is an answer, without a word on standard error.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Runs something that may panic; `None` if it does. The panic hook of the process is not told:
/// what it prints looks like a crash, and this is none.
pub(super) fn catch_quietly<T>(run: impl FnOnce() -> T) -> Option<T> {
    HOOKED.call_once(hook);
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    result.ok()
}

/// Puts a hook before the one that is there, which keeps silent for threads that are quiet.
fn hook() {
    let loud = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            loud(info);
        }
    }));
}

static HOOKED: Once = Once::new();

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_panic_that_is_an_answer_is_not_told_to_the_hook_and_others_are() {
        let (told, me) = (Arc::new(AtomicUsize::new(0)), thread::current().id());
        let count = Arc::clone(&told);
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |_| {
            count.fetch_add(usize::from(thread::current().id() == me), Ordering::Relaxed);
        }));
        hook();
        assert_eq!(catch_quietly(|| panic!("an answer")), None::<()>);
        assert_eq!(told.load(Ordering::Relaxed), 0);
        catch_unwind(|| panic!("a failure")).unwrap_err();
        assert_eq!(told.load(Ordering::Relaxed), 1);
        assert_eq!(catch_quietly(|| 7), Some(7));
        panic::set_hook(usual);
    }
}
