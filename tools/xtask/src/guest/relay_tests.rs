use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("xtask-relay-{name}-{}", std::process::id()));
    fs::create_dir_all(folder.join("ctl")).unwrap();
    folder
}

fn shell(run: &Path, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(run);
    command
}

fn life(patience: Duration) -> Life<'static> {
    let started = Instant::now();
    let deadline = started + patience;
    Life { started, deadline, begin_by: deadline, kernel_log: false, power: None }
}

#[test]
fn everything_printed_is_passed_on_even_what_comes_last() {
    let run = folder("last");
    let mut seen = (Vec::new(), Vec::new());
    let mut command = shell(&run, "echo a > stdout; echo b > stderr; touch ctl/booted; echo c >> stdout");
    let mut sink = |stream, bytes: &[u8]| match stream {
        Stream::Out => seen.0.extend_from_slice(bytes),
        Stream::Err => seen.1.extend_from_slice(bytes),
        Stream::Kernel => panic!("nobody asked for the console"),
    };
    let (finished, _) = watch(&mut command, &run, &life(Duration::from_secs(60)), &mut sink).unwrap();
    assert_eq!(finished, Finished::Ended);
    assert_eq!(seen, (b"a\nc\n".to_vec(), b"b\n".to_vec()));
    fs::remove_dir_all(run).unwrap();
}

#[test]
fn a_machine_past_its_deadline_is_killed() {
    let run = folder("deadline");
    let mut command = shell(&run, "echo $$ > pid; exec sleep 600");
    let (finished, boot) = watch(&mut command, &run, &life(Duration::from_millis(300)), &mut |_, _| {}).unwrap();
    assert_eq!((finished, boot), (Finished::Killed, None));
    let pid = fs::read_to_string(run.join("pid")).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "the process is gone");
    fs::remove_dir_all(run).unwrap();
}

#[test]
fn a_machine_whose_init_does_not_begin_in_time_is_killed_and_one_whose_does_is_not() {
    for (script, expected) in [("exec sleep 600", Finished::Silent), ("echo > begun; sleep 1", Finished::Ended)] {
        let run = folder("silent");
        let mut life = life(Duration::from_secs(60));
        life.begin_by = life.started + Duration::from_millis(500);
        let (finished, _) = watch(&mut shell(&run, script), &run, &life, &mut |_, _| {}).unwrap();
        assert_eq!(finished, expected, "{script}");
        fs::remove_dir_all(run).unwrap();
    }
}

#[test]
fn a_machine_that_cannot_start_is_told_from_one_that_ends() {
    let run = folder("failed");
    let (finished, _) =
        watch(&mut shell(&run, "exit 1"), &run, &life(Duration::from_secs(60)), &mut |_, _| {}).unwrap();
    assert_eq!(finished, Finished::Failed);
    fs::remove_dir_all(run).unwrap();
}
