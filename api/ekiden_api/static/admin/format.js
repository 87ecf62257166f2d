// Figures as people read them. What is not known is a dash.

export const NONE = "–";

const isNone = (value) => value === null || value === undefined;
const whole = new Intl.NumberFormat("en");
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const TIME = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

/** 12,345 or 8.4: a tenth matters below 100 alone. */
export function number(value) {
  if (isNone(value)) return NONE;
  return Math.abs(value) < 100 ? tenths.format(value) : whole.format(Math.round(value));
}

/** "3 min 20 s", and "3 min" where the rest is nothing. */
function two(large, unit, small, unitBelow) {
  return small ? `${large} ${unit} ${small} ${unitBelow}` : `${large} ${unit}`;
}

/** A span in milliseconds, in its two largest units. */
export function span(ms) {
  if (isNone(ms)) return NONE;
  const value = Math.max(0, ms);
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 9950) return `${(value / 1000).toFixed(1)} s`;
  const seconds = Math.round(value / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return two(Math.floor(seconds / 60), "min", seconds % 60, "s");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1440) return two(Math.floor(minutes / 60), "h", minutes % 60, "min");
  return two(Math.floor(minutes / 1440), "d", Math.floor((minutes % 1440) / 60), "h");
}

/** How long ago, without a part that changes too fast to read. */
export function age(ms) {
  if (isNone(ms)) return NONE;
  return ms < 1000 ? "now" : span(Math.floor(ms / 1000) * 1000).replace(".0 s", " s");
}

export function bytes(value) {
  if (isNone(value)) return NONE;
  const units = ["B", "KB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${size < 10 && unit ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** "31 of 80 GB". */
export function bytesOf(part, whole) {
  const [one, other] = [bytes(part), bytes(whole)];
  const unit = other.split(" ")[1];
  return `${one.endsWith(` ${unit}`) ? one.split(" ")[0] : one} of ${other}`;
}

export function percent(share) {
  return isNone(share) ? NONE : `${Math.round(share * 100)} %`;
}

/** A moment as the time of day here, with the date where that is not today. */
export function moment(ms) {
  if (isNone(ms)) return NONE;
  const at = new Date(ms);
  const time = at.toLocaleTimeString("en", TIME);
  return at.toDateString() === new Date().toDateString() ? time : `${date(at)} ${time}`;
}

function date(at) {
  return at.toLocaleDateString("en", { day: "numeric", month: "short" });
}

/** "1 job", "3 jobs". */
export function count(number_, noun) {
  return `${whole.format(number_)} ${noun}${number_ === 1 ? "" : "s"}`;
}

export function shortId(id) {
  return id.slice(0, 8);
}

/** The moment as an <input type=datetime-local> has it, which knows no zone. */
export function localInput(ms) {
  if (!ms) return "";
  const at = new Date(ms);
  return new Date(ms - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
