import { queryOptions } from "@tanstack/react-query";
import { request } from "@/api/client";
import type { Instance } from "./dates";

export interface Asked {
  from: string;
  to: string;
  people?: string[];
  rooms?: string[];
  team?: boolean;
}

/** The dates of people and rooms in a range, as far as one may know of them. */
export const instancesQuery = ({ from, to, people = [], rooms = [], team = false }: Asked) => {
  const query = new URLSearchParams({ fromTime: from, toTime: to, ...(team ? { team: "true" } : {}) });
  people.forEach((person) => query.append("employees", person));
  rooms.forEach((room) => query.append("rooms", room));
  return queryOptions({
    queryKey: ["list", "calendarEvents", "query", query.toString()],
    queryFn: async ({ signal }) =>
      (
        (await (await request(`/v1/calendarEvents:query?${query}`, { signal })).json()) as {
          instances?: Instance[];
        }
      ).instances ?? [],
    enabled: from !== "" && to !== "",
  });
};
