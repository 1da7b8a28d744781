"""Every key in Redis. All of ours begin with `{<prefix>}:`, one hash tag, so that a cluster keeps them on one server.

key              type    fields / members                                  lives           written by      read by
---------------  ------  ------------------------------------------------  --------------  --------------  ------------
job:<id>         hash    status revision lane queue order attempt fence    result ttl +    all scripts     all scripts
                         total succeeded failed skipped created started    tombstone once
                         finished expires ttl tombstone deadline cancel    finished
                         seq size kind phase webhook owner; every value
                         below 64 bytes, so that Redis packs it
spec:<id>        string  JSON of shared.job.Spec                           result ttl      submit          read pull
rows:<id>        string  JSON array of the rows, checked, in feature order result ttl      submit          pull rows
result:<id>      string  JSON array of the predictions                     result ttl      commit          read
outcome:<id>     string  JSON {failure?, errors?, warnings?}, if any       result ttl      finish          read
jobs<o>          stream  j = id, m = model; oldest first                   swept           submit sweep    list sweep
owners           set     who ever submitted a job, but for the default     for ever        submit          janitor
                         owner
usage<o>         hash    jobs = unfinished, of these staged = in stages;   for ever        submit finish   submit api
                         rows of unfinished prediction jobs; bytes in                      hold let_go
                         storage
held<o>          hash    id of a job or file, or <name>@<version> of a     until swept     hold            let_go
                         model of the owner -> its bytes in storage       or deleted
sent<o>          hash    day = since 1970, bytes that were sent as files   2 days          count_upload    api
                         on it
slot:<number>    hash    owner -> "jobs failed rows", then bucket:jobs;     11 minutes      finish          overview
                         what ended in these ten seconds since 1970, by
                         the half power of two of the ms that it took
failures<o>      list    ids of the newest 50 jobs that failed; of `*` in   7 days          finish          overview
                         place of the owner, those of all
rate:<owner>     string  requests of this second, and under the same name  2 s             api             api
                         with /-1 of the one before; the owner stands in
                         braces, as the library limits wants it
batches          set     ids of jobs in stages that are not done           until done      submit finish   submit
batch:<id>       hash    plan = waiting, a fence, done; plan_attempt       until done      submit and the  pull_batch
                         owner owned = who may go on with it until when                    batch scripts   read
                         layout position rows = what it found (layout of
                         a training: JSON of its plan); slices = how many, next = the first that is not handed
                         out, flying = chunks that run, pace = slices a
                         second; scored began ended = rows scored, from
                         when to when; final = a fence, final_attempt;
                         stop = why it ends early, outcome; begun = how
                         often it began anew; head = its priority;
                         most fraction = failed rows; file
slices:<id>      list    "start stop rows first_row group fault", of a     until done      plan            pull_batch
                         training "candidate fold"
again:<id>       zset    "first count attempt" of lost chunks, by first    while waiting   release         pull_batch
parts:<id>       hash    first slice -> JSON of a chunk or fit that is doneuntil done      commit_chunk    pull_batch
reasons:<id>     hash    reason -> rows that failed for it                 until done      commit_chunk    pull_batch
drift:<name>     list    "at window" newest first: how far a batch job's    100 at most    commit_final    api janitor
                         rows were from the training data, JSON
ended            set     ids of jobs in stages with parts to be removed   seconds         finish, chunk   janitor
uploads          zset    storage prefixes, by when they are given up       until it ends   api             janitor
files            zset    ids of uploaded files, by expiry                  until swept     api             janitor api
files:<owner>    zset    ids of an owner's files, all of score 0 and so    until deleted   api janitor     api
                         in the order in which they were sent             or swept
file:<id>        hash    file = JSON, expires, users = unfinished jobs     until swept     api submit      api submit
deadlines        zset    id, by the time when it must be done              until done      submit          tick
lane:<lane><o>   zset    waiting ids, by time of submit and priority       while waiting   submit release  pull
sharers:<lane>   zset    owners that wait in a lane, by last service       while waiting   submit pull     pull read
pace:<lane>      hash    rate = jobs a second, unit = usual ms of a unit,  1 hour          commit          read submit
                         cpu = the same in CPU time, floor = the least                                     pull
busy:<lane>      string  the worker that will pull from it in a moment     millis          pull commit     submit
ready:<queue>    zset    owners that have waiting work, by last service    while waiting   submit pull     pull tick
work:<queue><o>  zset    lanes that have waiting jobs of an owner, or      while waiting   submit pull     pull
                         its jobs in stages, by last service
aside:<queue>    zset    ids of waiting jobs that a worker was too old for, until done      pull            pull tick
                         by the schema that they are written in
linger:<queue>   zset    idle workers that wait for work, by their limit   seconds         pull            submit tick
wake:<worker>    list    one entry wakes that worker                       1 minute        submit tick     worker
bell:<queue>     string  a doorbell is on its way                          5 s             submit tick     submit tick
fence            string  the last one: microseconds, or one more than before for ever        pull            pull
leases           zset    fence of every unit that runs, by its deadline    while it runs   pull renew      tick
unit:<fence>     hash    lane queue worker pulled jobs (blank between);    while it runs   pull            commit tick
                         of a job in stages also kind first count attempt
idem:<digest>    string  "<job id> <sha256 of the request>"                a day or the ttlsubmit          submit api
full             string  what is short, `memory` or `disk`: no submits     seconds         janitor         submit
sweeps           hash    owner -> where the sweep of its jobs goes on      for ever        janitor         janitor
apikeys          set     ids of the keys for the API; while there is none  for ever        keys            api
                         the API asks nobody for one
apikey:<id>      hash    digest = sha256 of the key; previous, until = the until deleted   keys api        api
                         one before, and when it ends; name owner scopes
                         limits (JSON) created expires used revoked schema
owned:<owner>    set     models of an owner                                for ever        registry        api
workers:<role>   zset    processes by their last heartbeat                 seconds         heartbeat       readyz
                                                                                            overview
process:<h>:<p>  string  JSON {version, family, processes}; the names of    100 s           heartbeat       overview
                         those that a worker forks end in its family                        doctor
trial:<token>    string  1, to see that writes are taken                    1 minute        doctor          doctor
confirmed        string  1, so that there is a write: that replicas can be  1 minute        submit          -
                         waited for, or that is taken or not                                scrape
metrics          hash    all counters: "<name> <labels>", of a histogram    for ever        all scripts     scrape
                         with a bucket or `sum` behind, as in                               count
                         shared/metrics.py; most = models in `metered`
metered          set     models that have counters of their own            until deleted   submit finish   submit finish
counted:<p>      string  number of the newest sending of a process that     1 day           count           count
                         was added to the counters
readings         list    "<ms> <JSON>" of the load, newest first: of each   20 minutes      janitor         scrape
                         queue jobs accepted and ended, busy time (us),                                     janitor
                         and processes that were needed
models           set     names of models that have versions                for ever        registry        registry
model:<name>     hash    owner = whose it is, if anybody's; v:<version> ->   for ever        registry        submit
                         when it was registered, gone: -> 1 once it                                        registry
                         is deleted; alias:<alias> ->
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
outbox           zset    owners with webhooks to be sent, by when one is   while waiting   finish and the  webhook
                         due, or by their last service                                     webhook         scripts
                                                                                           scripts
receivers:<w>    zset    hosts that they go to, by the same                while waiting   the same        the same
undelivered:<w>  zset    ids of those for one host, by when they are due;  until they end  the same        the same
                         the key ends in : and the host
sending:<w>      zset    "<host> <id>" of those that are being sent, by    seconds         delivery_pull   the same
                         the end of the lease
delivery:<id>    hash    owner url host type status attempts created       webhook_log_    finish and the  the same
                         ended job traceparent; payload = the bytes that   seconds once    webhook
                         are sent, sent = a fence                          ended           scripts
attempts:<id>    list    JSON {attempt, at, status, error, milliseconds}   the same        delivery_pull   delivery
                         of each attempt, newest first, 20 at most;                        and _commit     delivery_pull
                         attempt 0 = none was made, error says why                         finish          and _commit
deliveries:<w>   zset    ids of all of an owner's, by when they were made  the same        finish and the  deliveries
                                                                                           webhook
                                                                                           scripts
settled:<w>      zset    ids of those that have ended, by when             the same        the same        the same
webhook_secret:  hash    secret (in clear, since it signs), created;       for ever        webhook_secret  webhook
                         previous = the one before, until = when it ends;                                  scripts
                         the key ends in the owner
awaited          string  some API process has clients that wait, or had a  10 s            api waiters     all scripts
                         submit of rows just now
followed         string  ... for every change, not only the end            10 s            api waiters     all scripts
changes          channel "r <ids>" jobs changed, "d <ids>" jobs are done   -               all scripts     api waiters
                         (and after a line end how), "g <ids>" are deleted
celery:...       -       Celery's own                                      -               celery          celery

<o> is `:` and the owner, or nothing for the default owner; a job or a file has a field `owner` unless it is that one's.
<w> is the owner of webhooks.
`finish` is what commit, tick, release, pull and cancel do when a job ends; pull, release, tick, submit, call_worker and
leave call workers, which writes linger, wake and bell. Times are milliseconds of Redis's own clock, never of a client's
(microseconds in `lane:`, `ready:` and `pulled`, seconds in `loaded`); only heartbeats are seconds of the machine that
beats.
"""

from shared.owner import DEFAULT_OWNER

# What processes say of themselves at the moment; a backup is without it.
MOMENTARY = (
    *("linger:", "wake:", "bell:", "busy:", "full", "workers:", "process:", "loaded", "copying:", "rate:"),
    # Counters begin at 0 after a restore: put back to what they were, they would be taken for as much more.
    *("awaited", "followed", "trial:", "confirmed", "metrics", "metered", "counted:", "readings"),
)


class Keys:
    """Names of the keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.base = f"{{{prefix}}}:"
        self.api_keys = f"{self.base}apikeys"
        self.changes = f"{self.base}changes"
        self.confirmed = f"{self.base}confirmed"
        self.awaited = f"{self.base}awaited"
        self.followed = f"{self.base}followed"
        self.full = f"{self.base}full"
        self.ended = f"{self.base}ended"
        self.files = f"{self.base}files"
        self.jobs = f"{self.base}jobs"
        self.loaded = f"{self.base}loaded"
        self.batches = f"{self.base}batches"
        self.leases = f"{self.base}leases"
        self.metered = f"{self.base}metered"
        self.metrics = f"{self.base}metrics"
        self.models = f"{self.base}models"
        self.owners = f"{self.base}owners"
        self.removed = f"{self.base}removed"
        self.uncopied = f"{self.base}uncopied"
        self.unsaved = f"{self.base}unsaved"
        self.readings = f"{self.base}readings"
        self.schedules = f"{self.base}schedules"
        self.uploads = f"{self.base}uploads"
        self.watching = f"{self.base}watching"

    @property
    def rates(self) -> str:
        """What comes before the colon in `rate:`, which the library limits puts there."""
        return f"{self.base}rate"

    def job(self, job_id: str) -> str:
        """The record."""
        return f"{self.base}job:{job_id}"

    def idempotency(self, digest: str) -> str:
        """What was accepted under an Idempotency-Key."""
        return f"{self.base}idem:{digest}"

    def file(self, file_id: str) -> str:
        """An uploaded file."""
        return f"{self.base}file:{file_id}"

    def files_of(self, owner: str) -> str:
        """The uploaded files of an owner."""
        return f"{self.base}files:{owner}"

    def drift(self, model: str) -> str:
        """The newest windows of drift of a model."""
        return f"{self.base}drift:{model}"

    def lane(self, lane: str, owner: str = DEFAULT_OWNER) -> str:
        """The waiting jobs of an owner in a lane."""
        return f"{self.base}lane:{lane}{self._of(owner)}"

    def usage(self, owner: str) -> str:
        """What an owner has."""
        return f"{self.base}usage{self._of(owner)}"

    def sent(self, owner: str) -> str:
        """What an owner has sent today."""
        return f"{self.base}sent{self._of(owner)}"

    def slot(self, number: int) -> str:
        """What ended in ten seconds, which are so many tens after 1970."""
        return f"{self.base}slot:{number}"

    def failures(self, owner: str) -> str:
        """The newest jobs of an owner, or of everybody, that failed."""
        return f"{self.base}failures{self._of(owner)}"

    def process(self, name: str) -> str:
        """What a process says of itself."""
        return f"{self.base}process:{name}"

    def owned(self, owner: str) -> str:
        """The models of an owner."""
        return f"{self.base}owned:{owner}"

    def api_key(self, key_id: str) -> str:
        """A key for the API."""
        return f"{self.base}apikey:{key_id}"

    @staticmethod
    def _of(owner: str) -> str:
        """The end of the keys that an owner has for itself, as in prelude.lua."""
        return "" if owner == DEFAULT_OWNER else f":{owner}"

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

    def trial(self, token: str) -> str:
        """What is written to see that writes are taken."""
        return f"{self.base}trial:{token}"

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
