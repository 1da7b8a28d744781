// The key of who uses this page, and what it may do.
import { Problem, call } from "/dashboard/api.js";

const KEY = "foretell-key";
const ANY = { owner: "default", key_id: null, scopes: [] };

function stores() {
  const found = [];
  for (const name of ["sessionStorage", "localStorage"]) {
    try {
      found.push(window[name]);
    } catch {
      // Forbidden here: the key lives as long as the page does.
    }
  }
  return found;
}

export const session = {
  key: null,
  who: ANY,

  /** Take up the key that was kept. */
  restore() {
    this.key = stores().map((store) => store.getItem(KEY)).find(Boolean) ?? null;
  },

  /** Use a key if it is valid: until the window is closed, or as long as this browser keeps it. */
  async signIn(key, keep) {
    const before = this.key;
    this.key = key;
    try {
      await this.identify();
      if (this.who.owner === null) throw new Problem(401, { detail: "This key is not valid: it may be mistyped, expired, or revoked." });
    } catch (problem) {
      this.key = before;
      throw problem;
    }
    const [session_, local] = stores();
    (keep ? local : session_)?.setItem(KEY, key);
  },

  signOut() {
    this.key = null;
    this.who = ANY;
    for (const store of stores()) store.removeItem(KEY);
  },

  /** Ask the service who we are: nobody, whose owner is null, if it wants a key that we do not have. */
  async identify() {
    this.who = (await call("/whoami")).body;
  },

  /** Whether any one of these scopes is there. */
  may(...scopes) {
    return this.who.scopes.includes("admin") || scopes.some((scope) => this.who.scopes.includes(scope));
  },

  /** Why something cannot be done, as a sentence; null if it can. */
  whyNot(what, ...scopes) {
    return this.may(...scopes) ? null : `Your key may not ${what}: it does not have the scope ${scopes.join(" or ")}.`;
  },

  /** The same for a change of a model, which may be another owner's. */
  whyNotChange(what, model, ...scopes) {
    const lacking = this.whyNot(what, ...scopes);
    if (lacking || model.owner === null || model.owner === this.who.owner || this.may("admin")) return lacking;
    return `Your key may not ${what}: the model belongs to ${model.owner}.`;
  },

  /** Headers that say who we are. */
  headers() {
    return this.key ? { Authorization: `Bearer ${this.key}` } : {};
  },
};
