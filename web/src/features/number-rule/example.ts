const PLACE = /\{(yyyyMMdd|yyyyMM|yyyy|yy|MM|dd|dept|dict:[\w.]+|seq:(\d{1,2}))\}/g;

/** The number that a pattern gives on a day; empty where it names no counter, or something that is none of its places. */
export function exampleOf(pattern: string, day: Date, sequence: number, department: string): string {
  const parts = {
    yyyy: String(day.getFullYear()),
    MM: String(day.getMonth() + 1).padStart(2, "0"),
    dd: String(day.getDate()).padStart(2, "0"),
  };
  const values: Record<string, string> = {
    ...parts,
    yy: parts.yyyy.slice(2),
    yyyyMM: parts.yyyy + parts.MM,
    yyyyMMdd: parts.yyyy + parts.MM + parts.dd,
    dept: department,
  };
  let counters = 0;
  const text = pattern.replace(PLACE, (_, place: string, digits: string | undefined) => {
    if (digits === undefined) return values[place] ?? department;
    counters += 1;
    return String(sequence).padStart(Number(digits), "0");
  });
  return counters === 1 && !/[{}]/.test(text) ? text : "";
}
