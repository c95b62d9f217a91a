import { numberFormat } from "./formatters";

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte"] as const;

/** 2,400,000 as "2.3 MB". */
export function formatBytes(bytes: number, language: string): string {
  const step = bytes > 0 ? Math.min(UNITS.length - 1, Math.floor(Math.log(bytes) / Math.log(1024))) : 0;
  return numberFormat(language, {
    style: "unit",
    unit: UNITS[step] ?? "byte",
    unitDisplay: "short",
    maximumFractionDigits: step > 0 ? 1 : 0,
  }).format(bytes / 1024 ** step);
}
