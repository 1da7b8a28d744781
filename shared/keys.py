"""Every key in Redis. All of ours begin with `{<prefix>}:`, one hash tag, so that a cluster keeps them on one server.

key              type    fields / members                                  lives           written by      read by
---------------  ------  ------------------------------------------------  --------------  --------------  ------------
job:<id>         hash    status revision lane queue order attempt fence    result ttl +    all scripts     all scripts
                         total succeeded failed skipped created started    tombstone once
                         finished expires ttl tombstone deadline cancel    finished
                         seq size kind phase; every value below 64 bytes,
                         so that Redis packs it
spec:<id>        string  JSON of shared.job.Spec                           result ttl      submit          read pull
rows:<id>        string  JSON array of the rows, checked, in feature order result ttl      submit          pull rows
result:<id>      string  JSON array of the predictions                     result ttl      commit          read
outcome:<id>     string  JSON {failure?, errors?, warnings?}, if any       result ttl      finish          read
jobs             stream  j = id, m = model; oldest first                   swept           submit sweep    list sweep
batches          set     ids of jobs in stages that are not done           until done      submit finish   submit
batch:<id>       hash    plan = waiting, a fence, done; plan_attempt       until done      submit and the  pull_batch
                         owner owned = who may go on with it until when                    batch scripts   read
                         layout position rows = what it found (layout of
                         a training: JSON of its plan); slices = how many, next = the first that is not handed
                         out, flying = chunks that run, pace = slices a
                         second; scored began ended = rows scored, from
                         when to when; final = a fence, final_attempt;
                         stop = why it ends early, outcome; head = its
                         priority; most fraction = failed rows; file
slices:<id>      list    "start stop rows first_row group fault", of a     until done      plan            pull_batch
                         training "candidate fold"
again:<id>       zset    "first count attempt" of lost chunks, by first    while waiting   release         pull_batch
parts:<id>       hash    first slice -> JSON of a chunk or fit that is doneuntil done      commit_chunk    pull_batch
reasons:<id>     hash    reason -> rows that failed for it                 until done      commit_chunk    pull_batch
drift:<name>     list    "at window" newest first: how far a batch job's    100 at most    commit_final    api janitor
                         rows were from the training data, JSON
ended            set     ids of jobs in stages with parts to be removed   seconds         finish          janitor
uploads          zset    storage prefixes, by when they are given up       until it ends   api             janitor
files            zset    ids of uploaded files, by expiry                  until swept     api             janitor
file:<id>        hash    file = JSON, expires, users = unfinished jobs     until swept     api submit      api submit
deadlines        zset    id, by the time when it must be done              until done      submit          tick
lane:<lane>      zset    waiting ids, by time of submit and priority       while waiting   submit release  pull
pace:<lane>      hash    rate = jobs a second, unit = usual ms of a unit,  1 hour          commit          read submit
                         cpu = the same in CPU time, floor = the least                                     pull
busy:<lane>      string  a worker will pull from it again in a moment      millis          pull commit     submit
ready:<queue>    zset    lanes that have waiting jobs, by last service     while waiting   submit pull     pull tick
linger:<queue>   zset    idle workers that wait for work, by their limit   seconds         pull            submit tick
wake:<worker>    list    one entry wakes that worker                       1 minute        submit tick     worker
bell:<queue>     string  a doorbell is on its way                          5 s             submit tick     submit tick
fence            string  counter                                           for ever        pull            pull
leases           zset    fence of every unit that runs, by its deadline    while it runs   pull renew      tick
unit:<fence>     hash    lane queue worker pulled jobs (blank between);    while it runs   pull            commit tick
                         of a job in stages also kind first count attempt
idem:<digest>    string  "<job id> <sha256 of the request>"                a day or the ttlsubmit          submit
full             string  memory is short: no submits                       seconds         janitor         submit
sweep            string  where the sweep of `jobs` goes on                 for ever        janitor         janitor
workers:<role>   zset    processes by their last heartbeat                 seconds         heartbeat       readyz
models           set     names of models that have versions                for ever        registry        registry
model:<name>     hash    v:<version> -> when it was registered, gone:      for ever        registry        submit
                         -> 1 once it is deleted; alias:<alias> ->                                         registry
                         version, and of each
                         revision: (its moves) and moved: (when, ms);
                         last = the last number, job:<token> -> number
                         that is reserved; changes = of all this
version:<n>@<v>  string  manifest JSON                                     for ever        registry        registry
history:<n>@<a>  list    JSON {at, alias, from, to, who, why, job_id,      1,000 moves     registry        registry
                         details} of each move of an alias, newest first
reserved         zset    "<name>@<version> <token>" of numbers, by when    1 day           registry        janitor
                         they were reserved; the janitor gives up those
                         whose version never came
unsaved          set     models whose copy in storage may be old           until copied    registry        janitor
uncopied         set     models whose schedule's copy may be old           until copied    schedule        janitor
                                                                                           scripts
copying:<k>:<n>  zset    who writes the copy of a model or schedule (k),   1 minute        registry and    registry and
                         by when it is given up                                            schedules       schedules
removed          set     deleted versions, <name>@<version>, whose files   until removed   registry        janitor
                         may still be there
loaded           hash    <host>:<pid> = JSON of the versions that a          100 s           prediction      api
                         prediction process has loaded, and when it said so                  processes
schedule:<name>  hash    schedule = JSON, times = cron and time zone;      for ever        schedule        api janitor
                         last = JSON of what came of the last run, ran =                   scripts
                         when that was due; revision, job = the last that
                         it made and window = the last of drift that it
                         acted on: these three stay when it is deleted
schedules        zset    models, by when their schedule is due (ms)        until deleted   schedule        janitor
                                                                                           scripts
watching         set     models whose schedule is also started by drift    until deleted   schedule        janitor
                                                                                           scripts
awaited          string  some API process has clients that wait            10 s            api waiters     all scripts
followed         string  ... for every change, not only the end            10 s            api waiters     all scripts
changes          channel "r <ids>" jobs changed, "d <ids>" jobs are done   -               all scripts     api waiters
celery:...       -       Celery's own                                      -               celery          celery

`finish` is what commit, tick, release, pull and cancel do when a job ends; pull, release, tick, submit and call_worker
call workers, which writes linger, wake and bell. Times are milliseconds of Redis's own clock, never of a client's
(microseconds in `lane:`, `ready:` and `pulled`, seconds in `loaded`); only heartbeats are seconds of the machine that
beats.
"""


class Keys:
    """Names of the keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.base = f"{{{prefix}}}:"
        self.changes = f"{self.base}changes"
        self.awaited = f"{self.base}awaited"
        self.followed = f"{self.base}followed"
        self.full = f"{self.base}full"
        self.ended = f"{self.base}ended"
        self.files = f"{self.base}files"
        self.jobs = f"{self.base}jobs"
        self.loaded = f"{self.base}loaded"
        self.models = f"{self.base}models"
        self.removed = f"{self.base}removed"
        self.uncopied = f"{self.base}uncopied"
        self.unsaved = f"{self.base}unsaved"
        self.schedules = f"{self.base}schedules"
        self.uploads = f"{self.base}uploads"
        self.watching = f"{self.base}watching"

    def job(self, job_id: str) -> str:
        """The record."""
        return f"{self.base}job:{job_id}"

    def file(self, file_id: str) -> str:
        """An uploaded file."""
        return f"{self.base}file:{file_id}"

    def drift(self, model: str) -> str:
        """The newest windows of drift of a model."""
        return f"{self.base}drift:{model}"

    def lane(self, lane: str) -> str:
        """The waiting jobs of a lane."""
        return f"{self.base}lane:{lane}"

    def pace(self, lane: str) -> str:
        """The measured pace of a lane."""
        return f"{self.base}pace:{lane}"

    def rows(self, job_id: str) -> str:
        """The rows."""
        return f"{self.base}rows:{job_id}"

    def slices(self, job_id: str) -> str:
        """The slices of a batch job."""
        return f"{self.base}slices:{job_id}"

    def wake(self, worker: str) -> str:
        """The list that a lingering worker waits on."""
        return f"{self.base}wake:{worker}"

    def workers(self, role: str) -> str:
        """The heartbeats of a role."""
        return f"{self.base}workers:{role}"

    def model(self, name: str) -> str:
        """Versions and aliases of a model."""
        return f"{self.base}model:{name}"

    def history(self, name: str, alias: str) -> str:
        """The moves of an alias."""
        return f"{self.base}history:{name}@{alias}"

    def schedule(self, model: str) -> str:
        """A model's schedule."""
        return f"{self.base}schedule:{model}"

    def version(self, name: str, version: int) -> str:
        """A version's manifest."""
        return f"{self.base}version:{name}@{version}"


def predict_lane(model: str, version: int) -> str:
    """The lane of small predictions of one model version."""
    return f"{model}@{version}"
