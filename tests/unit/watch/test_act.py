import pytest

from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.watch.act import AGAIN, Actor

RUN = (7, 100.0)
NOTIFY = ["scontrol", "notify", "7", "text"]
NAME = ["squeue", "--noheader", "--jobs", "7", "--format", "%A %i"]
CANCEL = ["scancel", "7"]
WHY = ["sacctmgr", "-i", "modify", "job", "where", "jobid=7", "set", "systemcomment=why"]


class Slurm:
    """An actor whose commands are kept; those whose name is in ``broken`` fail."""

    def __init__(self):
        self.asked, self.said, self.broken, self.now = [], [], set(), 0.0
        self.queue = "7 7\n"
        self.here = {RUN}
        self.actor = Actor(lambda run: run in self.here, self.said.append, self.command, lambda: self.now)

    def command(self, argv, timeout):
        self.asked.append(argv)
        if argv[0] in self.broken:
            raise SlurmError(f"{argv[0]}: away")
        return self.queue if argv[0] == "squeue" else ""

    def end(self):
        self.actor.end(RUN, "text", "why")
        return self.work()

    def work(self):
        self.asked.clear()
        self.actor.work()
        return list(self.asked)


def test_a_warning_is_a_notice_alone():
    slurm = Slurm()
    slurm.actor.warn(RUN, "text")
    assert slurm.work() == [NOTIFY] and slurm.work() == []


def test_a_warning_with_a_reason_is_in_accounting_too():
    slurm = Slurm()
    slurm.actor.warn(RUN, "text", "why")
    assert slurm.work() == [NOTIFY, NAME, WHY] and slurm.work() == []


def test_a_job_goes_back_into_the_queue_once_and_its_reason_is_written_before():
    slurm = Slurm()
    slurm.queue = "7 5_2\n"
    slurm.actor.requeue(RUN, "text", "why")
    slurm.actor.requeue(RUN, "text", "why")
    why = ["jobid=5_2" if word == "jobid=7" else word for word in WHY]
    assert slurm.work() == [NOTIFY, NAME, why, ["scontrol", "requeue", "5_2"]] and slurm.said == ["requeued job 7"]


def test_no_reason_of_this_run_is_written_later_to_the_next():
    slurm = Slurm()
    slurm.broken = {"sacctmgr"}
    slurm.actor.warn(RUN, "text", "warned")
    slurm.actor.requeue(RUN, "text", "why")
    slurm.work()
    slurm.broken, slurm.now = set(), 100
    assert slurm.work() == []


def test_a_requeue_that_failed_is_tried_again_and_a_job_that_is_gone_is_not_requeued():
    slurm = Slurm()
    slurm.broken, slurm.queue = {"scontrol"}, "7 7\n"
    for _ in range(2):
        slurm.actor.requeue(RUN, "text", "why")
        assert ["scontrol", "requeue", "7"] in slurm.work()
    slurm.here = set()
    slurm.actor.requeue(RUN, "text", "why")
    slurm.actor.warn(RUN, "text", "why")
    assert slurm.work() == []


def test_an_end_tells_the_user_first_and_slurmdbd_last():
    assert Slurm().end() == [NOTIFY, NAME, CANCEL, WHY]


def test_a_task_of_an_array_is_cancelled_alone():
    slurm = Slurm()
    slurm.queue = "8 7_1\n9 7_2\n7 7_3\n7 odd line\n"
    why = ["jobid=7_3" if word == "jobid=7" else word for word in WHY]
    assert slurm.end() == [NOTIFY, NAME, ["scancel", "7_3"], why]


@pytest.mark.parametrize("queue", ["", "8 7_1\n"])
def test_a_job_that_slurm_does_not_name_is_not_cancelled_by_guess(queue):
    slurm = Slurm()
    slurm.queue = queue
    assert slurm.end() == [NOTIFY, NAME]


def test_a_job_that_takes_its_time_to_end_is_not_cancelled_at_each_sample():
    slurm = Slurm()
    slurm.end()
    slurm.now = AGAIN - 1
    assert slurm.end() == []
    slurm.now = AGAIN
    assert CANCEL in slurm.end()


def test_a_cancel_that_failed_is_tried_at_the_next_sample_and_gives_no_reason_before():
    slurm = Slurm()
    slurm.broken = {"scancel", "scontrol"}
    assert slurm.end() == [NOTIFY, NAME, CANCEL] and slurm.said == ["scontrol: away", "scancel: away"]
    slurm.broken = set()
    assert slurm.end() == [NOTIFY, NAME, CANCEL, WHY]


def test_a_run_that_is_gone_ends_no_later_one():
    slurm = Slurm()
    slurm.here = {(7, 200.0)}
    slurm.actor.warn(RUN, "text")
    assert slurm.end() == []


def test_a_reason_that_slurmdbd_did_not_take_is_written_later_even_when_the_run_is_gone():
    slurm = Slurm()
    slurm.broken = {"sacctmgr"}
    assert slurm.end()[-1] == WHY
    slurm.here, slurm.broken = set(), set()
    assert slurm.work() == []
    slurm.now = 31
    assert slurm.work() == [WHY] and slurm.work() == []


def test_a_reason_that_is_never_taken_is_given_up():
    slurm = Slurm()
    slurm.broken = {"sacctmgr"}
    slurm.end()
    slurm.now = 4000
    assert slurm.work() == [WHY]
    slurm.now = 5000
    assert slurm.work() == []


def test_its_thread_survives_what_goes_wrong_and_ends_what_is_asked():
    slurm = Slurm()
    slurm.actor._todo.append(lambda: 1 // 0)
    slurm.actor.warn(RUN, "text")
    slurm.actor.start()
    slurm.actor.stop()
    assert slurm.asked == [NOTIFY] and "ZeroDivisionError" in slurm.said[0]
