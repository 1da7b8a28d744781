// A job at every change, from its event stream; by fetch, since EventSource can send no key.
import { Problem, call, check, send } from "/dashboard/api.js";

const LONGEST_PAUSE = 15_000;

/** Call `onJob` with the job as it is, then at every change, until it is done or the page is left. */
export async function follow(jobId, onJob, onTrouble, signal) {
  let last = null;
  let pause = 1000;
  for (;;) {
    try {
      for await (const event of events(`/jobs/${jobId}/events`, last, signal)) {
        last = event.id;
        pause = 1000;
        const job = JSON.parse(event.data);
        onTrouble(null);
        onJob(job);
        if (job.done) return;
      }
    } catch (problem) {
      if (signal.aborted || problem.name === "AbortError") return;
      if (problem instanceof Problem && [401, 403, 404, 410].includes(problem.status)) throw problem;
      onTrouble(problem);
      if (problem.code === "too_many_streams") {
        const { body } = await call(`/jobs/${jobId}`, { signal }).catch(() => ({ body: null }));
        if (body) {
          onJob(body);
          if (body.done) return;
        }
      }
    }
    if (signal.aborted) return;
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }
}

/** The events of a stream as {id, data} (HTML Living Standard, section 9.2.6). */
async function* events(path, last, signal) {
  const response = await send(path, { headers: last ? { "Last-Event-ID": last } : {}, signal });
  await check(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      return { done: true };
    });
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { id: null, data: "" };
      for (const line of block.split("\n")) {
        if (line.startsWith("id: ")) event.id = line.slice(4);
        if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      if (event.data) yield event;
    }
  }
}
