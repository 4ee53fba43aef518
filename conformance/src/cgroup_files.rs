//! The files of a cgroup, read by the kernel's own description of their forms.
//!
//! For what `cgroups-rs` does not read; shares no code with any runtime. See "Format" in the
//! kernel's admin-guide/cgroup-v2.

use std::collections::BTreeMap;

/// What a file has for each object, by key.
pub type Nested = BTreeMap<String, BTreeMap<String, String>>;

/// A file with a line `OBJECT KEY=VALUE KEY=VALUE...` for each object ("nested keyed"), as
/// `io.max` and `rdma.max`. Later lines of an object add to earlier ones: so it is also
/// what several writes come to.
///
/// # Errors
///
/// A line that has not this form.
pub fn nested_keyed(text: &str) -> Result<Nested, String> {
    let mut objects = Nested::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let object = words.next().filter(|word| !word.is_empty());
        let object = object.ok_or_else(|| format!("no object: {line:?}"))?;
        let keys = objects.entry(object.to_owned()).or_default();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| format!("no value: {line:?}"))?;
            keys.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(objects)
}

/// A file with a line `KEY VALUE` for each key ("flat keyed"), as `misc.max` and `io.weight`.
///
/// # Errors
///
/// A line that has not this form.
pub fn flat_keyed(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pair = |line: &str| {
        let (key, value) = line
            .split_once(' ')
            .ok_or_else(|| format!("no value: {line:?}"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    text.lines().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::{flat_keyed, nested_keyed};

    #[test]
    fn the_examples_of_the_kernels_documentation_are_read() {
        let found = nested_keyed("8:16 rbps=2097152 wbps=max riops=max wiops=120\n").unwrap();
        assert_eq!(found["8:16"]["rbps"], "2097152");
        assert_eq!(found["8:16"]["wiops"], "120");
        let found = nested_keyed(
            "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n",
        );
        assert_eq!(found.unwrap()["ocrdma1"]["hca_object"], "max");
        let found = flat_keyed("res_a max\nres_b 4\n").unwrap();
        assert_eq!(found["res_b"], "4");
        assert!(nested_keyed("8:16 rbps\n").is_err());
        assert!(nested_keyed(" rbps=1\n").is_err());
        assert!(flat_keyed("res_a\n").is_err());
    }
}
