// The frame around every view: who looks, where to go, and whether what is shown is live.

import { Audit } from "./audit.js";
import { moment } from "./format.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Job } from "./job.js";
import { Jobs } from "./jobs.js";
import { live, useConnection } from "./live.js";
import { Login, Shut } from "./login.js";
import { Mark } from "./mark.js";
import { Notice } from "./notice.js";
import { Overview } from "./overview.js";
import { address, useRoute } from "./route.js";
import { call, session } from "./server.js";
import { Workers } from "./workers.js";

const VIEWS = { overview: "Overview", jobs: "Jobs", workers: "Workers", audit: "Audit" };
const AGAIN_MS = 2000;

/** { me, refusal, ask }: who this is; asked again at every new connection, since a restart may change it. */
function useMe() {
  const [found, setFound] = useState({ me: null, refusal: null });
  const { state } = useConnection();
  const ask = async () => {
    try {
      setFound({ me: await call("GET", "me"), refusal: null });
      live.start();
    } catch (refusal) {
      const shut = ["unauthorized", "forbidden"].includes(refusal.code);
      if (shut) live.stop();
      setFound(({ me }) => ({ me: shut ? null : me, refusal }));
    }
  };
  useEffect(() => {
    session.onLost = ask;
    ask();
  }, []);
  useEffect(() => {
    if (state === "live") ask();
  }, [state]);
  useEffect(() => {
    if (found.me || !found.refusal || found.refusal.code) return undefined;
    const timer = setTimeout(ask, AGAIN_MS);
    return () => clearTimeout(timer);
  }, [found]);
  return { ...found, ask };
}

export function App() {
  const { me, refusal, ask } = useMe();
  const logout = async () => {
    await call("POST", "logout").catch(() => {});
    live.stop();
    ask();
  };
  if (me) return html`<${Frame} me=${me} onLogout=${logout} />`;
  if (refusal?.code === "unauthorized") return html`<${Login} onDone=${ask} />`;
  if (refusal?.code === "forbidden") return html`<${Shut} message=${refusal.message} onLogout=${logout} />`;
  return html`<main class="gate"><${Mark} size=${52} /><p role="status">${refusal?.message ?? "Loading…"}</p></main>`;
}

function Frame({ me, onLogout }) {
  const route = useRoute();
  const main = useRef();
  const name = route.path[0] in VIEWS ? route.path[0] : "overview";
  const job = name === "jobs" ? route.path[1] : undefined;
  const title = job ? `Job ${job.slice(0, 8)}` : VIEWS[name];
  const { state } = useConnection();
  const place = `${name}/${job ?? ""}`;
  const shown = useRef(place);
  useEffect(() => {
    document.title = `${title} · Ekiden`;
    if (shown.current === place) return;
    shown.current = place; // another view: a screen reader begins with its heading
    scrollTo(0, 0);
    main.current.querySelector("h1")?.focus({ preventScroll: true });
  }, [place]);
  const skip = (event) => {
    event.preventDefault(); // the address is a view's, not an anchor
    main.current.focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <${Header} me=${me} name=${name} onLogout=${onLogout} />
    <main id="main" ref=${main} tabindex="-1" data-stale=${["stalled", "reconnecting"].includes(state)}>
      ${name === "overview" && html`<${Overview} me=${me} query=${route.query} />`}
      ${name === "jobs" && !job && html`<${Jobs} me=${me} query=${route.query} />`}
      ${job && html`<${Job} key=${job} me=${me} id=${job} />`}
      ${name === "workers" && html`<${Workers} me=${me} />`}
      ${name === "audit" && html`<${Audit} query=${route.query} />`}
    </main>
    <${Notice} />
    <footer>Ekiden ${me.version}${me.user && ` · ${me.user}, ${me.role}`}${me.open && " · no keys are set"}</footer>`;
}

function Header({ me, name, onLogout }) {
  return html`
    <header>
      <a class="brand" href="#/overview" aria-label="Ekiden dashboard"><${Mark} size=${30} /><span>Ekiden</span></a>
      <nav aria-label="Views">
        <ul>
          ${Object.entries(VIEWS).map(([view, title]) => html`
            <li key=${view}><a href=${address(view)} aria-current=${view === name ? "page" : null}>${title}</a></li>`)}
        </ul>
      </nav>
      <${Connection} />
      <${ThemeSwitch} />
      ${!me.open && html`<button type="button" class="quiet small" onClick=${onLogout}>Sign out</button>`}
    </header>`;
}

function Connection() {
  const { state, figuresMs } = useConnection();
  const age = figuresMs === null ? "" : `, figures of ${moment(figuresMs)}`;
  const words = {
    connecting: "Connecting…",
    live: "Live",
    stalled: `No word from the job store${age}`,
    reconnecting: `Reconnecting…${age}`,
  };
  return html`<p class="connection" role="status" data-state=${state}>${words[state]}</p>`;
}

const THEMES = { auto: "System", light: "Light", dark: "Dark" };

function ThemeSwitch() {
  const [choice, setChoice] = useState(theme.choice);
  const choose = ({ currentTarget }) => {
    theme.choice = currentTarget.value;
    setChoice(theme.choice);
  };
  return html`
    <select class="theme small" aria-label="Colours" value=${choice} onChange=${choose}>
      ${Object.entries(THEMES).map(([value, title]) => html`<option key=${value} value=${value}>${title}</option>`)}
    </select>`;
}
